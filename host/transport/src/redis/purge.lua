-- ARGV[3] queue. Returns how many waited.
local count = redis.call('LLEN', list(ARGV[3]))
redis.call('DEL', list(ARGV[3]), meta(ARGV[3]))
return count
