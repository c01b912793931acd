-- ARGV[3...]: queue, payload of each task. Returns the ids.
local ids, told, time = {}, {}, now()
for i = 3, #ARGV, 2 do
  ids[#ids + 1] = push(ARGV[i], ARGV[i + 1], time)
  told[ARGV[i]] = true
end
for queue in pairs(told) do tell(queue) end
return ids
