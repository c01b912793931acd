-- ARGV[3] owner, ARGV[4] queue, ARGV[5] at most. Returns the claim, then meta, payload of each task.
local owner, queue, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('HEXISTS', R .. 'owners', owner) == 0 then
  return redis.error_reply('REXGONE this owner was taken for dead')
end
local payloads, metas = adopt(queue, most)
if #payloads == 0 then return {} end
redis.call('LTRIM', list(queue), #payloads, -1)
redis.call('LTRIM', meta(queue), #payloads, -1)
local claim = redis.call('INCR', R .. 'claim')
redis.call('HSET', R .. 'claims', claim, owner .. ' ' .. queue)
redis.call('HINCRBY', R .. 'inflight', queue, #payloads)
local reply = { tostring(claim) }
for i, payload in ipairs(payloads) do
  local id, head = string.match(metas[i], '^(%d+) (%d+ %d+) ')
  redis.call('HSET', claim_key(claim), id, head .. ' ' .. payload)
  reply[#reply + 1] = metas[i]
  reply[#reply + 1] = payload
end
return reply
