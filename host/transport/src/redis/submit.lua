-- ARGV[3...]: queue, payload, when of each task. Returns the ids.
local why = any_unfit(3, #ARGV)
if why then return redis.error_reply(why) end
local ids, told, time = {}, {}, now()
for i = 3, #ARGV, 3 do
  ids[#ids + 1] = push(ARGV[i], ARGV[i + 1], time, ARGV[i + 2])
  told[ARGV[i]] = true
end
for queue in pairs(told) do tell(queue) end
return ids
