-- ARGV[3] owner, ARGV[4] queue, ARGV[5] tasks at most, ARGV[6] bytes after which no more are taken,
-- ARGV[7] how many may be in flight, or nothing. Returns the claim, then meta, payload, history of
-- each task.
local owner, queue, most, bytes = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HEXISTS', R .. 'owners', owner) == 0 then
  return redis.error_reply('REXGONE this owner was taken for dead')
end
local why = unfit(queue)
if why then return redis.error_reply(why) end
if is_paused(queue) then return {} end
ripen(queue)
if ARGV[7] ~= '' then
  local flying = tonumber(redis.call('HGET', R .. 'inflight', queue) or '0')
  most = math.min(most, tonumber(ARGV[7]) - flying)
end
local count, size = 0, 0
while count < most and size < bytes do
  local page = redis.call('LRANGE', list(queue), count, math.min(count + 99, most - 1))
  if #page == 0 then break end
  for _, payload in ipairs(page) do
    count, size = count + 1, size + #payload
    if size >= bytes then break end
  end
end
if count == 0 then return {} end
even_if_full()
local payloads, metas = adopt(queue, count)
-- Not below the time: a server that has lost its data must not count from one again, since a host may
-- still hold claims from before.
local claim = string.format('%.0f', math.max(redis.call('INCR', R .. 'claim'), tonumber(now())))
redis.call('SET', R .. 'claim', claim)
redis.call('HSET', R .. 'claims', claim, owner .. ' ' .. queue)
local reply, tried = { claim }, redis.call('EXISTS', R .. 'history') == 1
for i, payload in ipairs(payloads) do
  local id, head = string.match(metas[i], '^(%d+) (%d+ %d+) ')
  redis.call('HSET', claim_key(claim), id, head .. ' ' .. payload)
  reply[#reply + 1] = metas[i]
  reply[#reply + 1] = payload
  reply[#reply + 1] = tried and redis.call('HGET', R .. 'history', id) or ''
end
redis.call('LTRIM', list(queue), #payloads, -1)
redis.call('LTRIM', meta(queue), #payloads, -1)
redis.call('HINCRBY', R .. 'inflight', queue, #payloads)
return reply
