-- ARGV[3] key. Makes it, for a minute.
even_if_full()
redis.call('SET', ARGV[3], '', 'EX', 60)
return 1
