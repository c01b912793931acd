-- ARGV[3] queue, ARGV[4] at most. Returns meta, payload, time when it is due or nothing, of each task.
local queue, most = ARGV[3], tonumber(ARGV[4])
local why = unfit(queue)
if why then return redis.error_reply(why) end
ripen(queue)
local payloads, metas = adopt(queue, most)
local reply = {}
for i, payload in ipairs(payloads) do
  reply[#reply + 1] = metas[i]
  reply[#reply + 1] = payload
  reply[#reply + 1] = ''
end
if #payloads < most then
  local delayed = redis.call('ZRANGE', due(queue), 0, most - #payloads - 1, 'WITHSCORES')
  for i = 1, #delayed, 2 do
    local value = redis.call('HGET', later(queue), delayed[i])
    if value then
      local head, payload = string.match(value, '^(%d+ %d+) (.*)$')
      reply[#reply + 1] = delayed[i] .. ' ' .. head
      reply[#reply + 1] = payload
      reply[#reply + 1] = string.format('%.0f', delayed[i + 1])
    end
  end
end
return reply
