-- ARGV[3] owner; then of each task: claim, task, what became of it (done, dead, back, or after how many
-- microseconds to try it again), the death or the history as JSON or nothing, how many submits, and
-- queue, payload, when of each. Returns what was no longer ours, and the claims that have ended.
local owner, at, time = ARGV[3], 4, now()
local lost, ended, told, back, retried = {}, {}, {}, {}, {}
local why = unfit_shared()
if why then return redis.error_reply(why) end
while at <= #ARGV do
  local next = at + 5 + 3 * tonumber(ARGV[at + 4])
  why = any_unfit(at + 5, next - 1)
  if ARGV[at + 2] ~= 'done' and ARGV[at + 2] ~= 'dead' then
    local queue = string.match(redis.call('HGET', R .. 'claims', ARGV[at]) or '', ' (.*)$')
    why = why or queue and unfit(queue)
  end
  if why then return redis.error_reply(why) end
  at = next
end
at = 4
even_if_full()
while at <= #ARGV do
  local claim, task, outcome, death, submits =
    ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local next = at + 5 + 3 * submits
  local row = redis.call('HGET', R .. 'claims', claim) or ''
  local holder, queue = string.match(row, '^(%d+) (.*)$')
  if holder ~= owner then
    lost[#lost + 1] = task
    ended[#ended + 1] = claim
  else
    local value = redis.call('HGET', claim_key(claim), task)
    -- Without a value it was recorded before, and nothing changes.
    if value then
      local head, payload = string.match(value, '^(%d+ %d+) (.*)$')
      if outcome == 'dead' then
        local letter = redis.call('INCR', R .. 'letter')
        redis.call('HSET', R .. 'dead', letter,
          table.concat({ task, queue, head, time, #death, death }, ' ') .. payload)
        redis.call('HINCRBY', R .. 'deaths', queue, 1)
      elseif outcome == 'back' then
        back[queue] = back[queue] or {}
        table.insert(back[queue], { tonumber(task), task .. ' ' .. head, payload })
      elseif outcome ~= 'done' then
        local submitted, attempt = string.match(head, '^(%d+) (%d+)$')
        head = submitted .. ' ' .. (tonumber(attempt) + 1)
        remember(task, death)
        delay(queue, task, head, payload, tonumber(time) + tonumber(outcome))
        retried[queue] = true
      end
      if outcome == 'done' or outcome == 'dead' then redis.call('HDEL', R .. 'history', task) end
      for i = at + 5, next - 1, 3 do
        push(ARGV[i], ARGV[i + 1], time, ARGV[i + 2])
        told[ARGV[i]] = true
      end
      redis.call('HDEL', claim_key(claim), task)
      landed(queue, 1)
      if redis.call('EXISTS', claim_key(claim)) == 0 then
        redis.call('HDEL', R .. 'claims', claim)
        ended[#ended + 1] = claim
      end
    end
  end
  at = next
end
for queue, tasks in pairs(back) do put_back(queue, tasks) end
for queue in pairs(retried) do ripen(queue) end
for queue in pairs(told) do tell(queue) end
return { lost, ended }
