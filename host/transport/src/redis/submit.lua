-- ARGV[3...]: queue, payload, when of each task. Returns the ids.
local unfit = find_unfit(3, #ARGV)
if unfit then return refuse(unfit) end
local ids, told, time = {}, {}, now()
for i = 3, #ARGV, 3 do
  ids[#ids + 1] = push(ARGV[i], ARGV[i + 1], time, ARGV[i + 2])
  told[ARGV[i]] = true
end
for queue in pairs(told) do tell(queue) end
return ids
