-- ARGV[3] schedule, ARGV[4] since when it is known, if it was not before. Returns its last occasion.
local last = redis.call('HGET', R .. 'schedules', ARGV[3])
if last then return last end
even_if_full()
redis.call('HSET', R .. 'schedules', ARGV[3], ARGV[4])
return ARGV[4]
