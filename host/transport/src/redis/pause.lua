-- ARGV[3] queue, ARGV[4] '1' to pause it. Claims look there.
even_if_full()
redis.call(ARGV[4] == '1' and 'SADD' or 'SREM', R .. 'paused', ARGV[3])
tell(ARGV[3])
return 1
