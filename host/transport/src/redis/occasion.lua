-- ARGV[3] schedule, ARGV[4] its occasion in microseconds since 1970, then queue, payload, when of each
-- task. Returns whether it was recorded now; one that is not later than the last one is not.
local last = redis.call('HGET', R .. 'schedules', ARGV[3])
if last and tonumber(last) >= tonumber(ARGV[4]) then return 0 end
local why = any_unfit(5, #ARGV)
if why then return redis.error_reply(why) end
redis.call('HSET', R .. 'schedules', ARGV[3], ARGV[4])
local told, time = {}, now()
for i = 5, #ARGV, 3 do
  push(ARGV[i], ARGV[i + 1], time, ARGV[i + 2])
  told[ARGV[i]] = true
end
for queue in pairs(told) do tell(queue) end
return 1
