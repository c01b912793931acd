-- ARGV[3] queue, ARGV[4] at most. Returns meta, payload of each task.
local payloads, metas = adopt(ARGV[3], tonumber(ARGV[4]))
local reply = {}
for i, payload in ipairs(payloads) do
  reply[#reply + 1] = metas[i]
  reply[#reply + 1] = payload
end
return reply
