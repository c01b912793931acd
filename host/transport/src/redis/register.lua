-- ARGV[3] owner, ARGV[4] who that is. Enters the owner, beating from now.
even_if_full()
redis.call('HSET', R .. 'owners', ARGV[3], now() .. ' ' .. ARGV[4])
return 1
