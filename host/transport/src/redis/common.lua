-- What every script shares: names of keys, and the tasks' identities.
-- ARGV[1] key prefix, ARGV[2] database.
local P, DB = ARGV[1], ARGV[2]
local R = P .. ':rex:'

-- The original's list of a queue: payloads, nothing else.
local function list(queue) return P .. '_' .. queue end

-- Beside it, in the same order: "ID SUBMITTED ATTEMPT DIGEST" of each task.
local function meta(queue) return R .. 'meta:' .. queue end

-- Tasks that wait for their time: numbers by it, and "SUBMITTED ATTEMPT PAYLOAD" by number.
local function due(queue) return R .. 'due:' .. queue end
local function later(queue) return R .. 'later:' .. queue end

local function now()
  local time = redis.call('TIME')
  return string.format('%d%06d', time[1], time[2])
end

local function digest(payload) return string.sub(redis.sha1hex(payload), 1, 16) end

-- At its maxmemory a server refuses a script the first command that may take memory, but none after one
-- that changes and takes none. What gets tasks done is to go on. (For this there is the flag
-- `allow-oom`, too, but only from Redis 7 on; older ones take its line for an error.)
local function even_if_full() redis.call('DEL', R .. 'none') end

local function tell(queue) redis.pcall('PUBLISH', R .. 'wake@' .. DB, queue) end

-- What fails half way is not rolled back, so each script first looks for what would make it fail, keys
-- that are something else, and takes a task away where it was last when it is in its next place.
local SHARED = {
  claims = 'hash', inflight = 'hash', history = 'hash', dead = 'hash', deaths = 'hash',
  schedules = 'hash', paused = 'set', id = 'number', claim = 'number', letter = 'number',
}

-- What is wrong with a key that has to be of a kind, if anything is.
local function unfit_key(key, kind)
  local found = redis.call('TYPE', key).ok
  local fits = found == 'none' or found == kind
    or kind == 'number' and found == 'string' and string.match(redis.call('GET', key), '^%d+$')
  if not fits then return "the key '" .. key .. "' is no " .. kind end
end

-- What was looked at: why it is unfit, or false.
local shared_seen, seen = nil, {}

-- What is wrong with the keys of all queues, if anything is, as an error.
local function unfit_shared()
  if shared_seen == nil then
    shared_seen = false
    for name, kind in pairs(SHARED) do
      local why = unfit_key(R .. name, kind)
      if why then shared_seen = 'REXKEYS ' .. why end
    end
  end
  return shared_seen
end

-- What is wrong with the keys that concern a queue, if anything is, as an error.
local function unfit(queue)
  if seen[queue] == nil then
    local why = unfit_key(list(queue), 'list') or unfit_key(meta(queue), 'list')
      or unfit_key(due(queue), 'zset') or unfit_key(later(queue), 'hash')
    seen[queue] = why and 'WRONGTYPE ' .. why or false
  end
  return unfit_shared() or seen[queue]
end

-- As `unfit`, of all queues of tasks, each queue, payload, when, from ARGV[first] to ARGV[last].
local function any_unfit(first, last)
  for i = first, last, 3 do
    local why = unfit(ARGV[i])
    if why then return why end
  end
end

-- While a script runs the server answers nobody: so many tasks at most are moved to let others in between
-- them, come due, or are looked through, at once, and about so many bytes.
local MOST, MOST_BYTES = 10000, 67108864

-- By so many payloads it is told where in the list one is.
local ALIKE = 16

local function has_history() return redis.call('HLEN', R .. 'history') > 0 end

-- What is known of tasks that others have taken.
local function forget(metas)
  if #metas == 0 or not has_history() then return end
  for _, head in ipairs(metas) do
    redis.call('HDEL', R .. 'history', string.match(head, '^%d+'))
  end
end

-- Forgets the first tasks of a queue. Others may have taken millions since the last look, of which
-- nothing is read without need.
local function drop(queue, count)
  while count > 0 do
    local part = count
    if has_history() then
      part = math.min(count, MOST)
      forget(redis.call('LRANGE', meta(queue), 0, part - 1))
    end
    redis.call('LTRIM', meta(queue), part, -1)
    count = count - part
  end
end

-- Old producers push and old consumers pop without our metas. Makes the first `count` metas those of
-- the first `count` payloads: what we do not know gets an identity, what is gone loses it.
local function adopt(queue, count)
  local payloads = redis.call('LRANGE', list(queue), 0, count - 1)
  -- So many at least were popped.
  drop(queue, redis.call('LLEN', meta(queue)) - redis.call('LLEN', list(queue)))
  if #payloads == 0 then return payloads, {} end
  local known = redis.call('LRANGE', meta(queue), 0, count + 99)
  local sums = {}
  local function sum_of(i)
    sums[i] = sums[i] or payloads[i] and digest(payloads[i])
    return sums[i]
  end
  local function is(j, sum) return known[j] and string.sub(known[j], -16) == sum end
  -- How many of the first payloads are those of the metas from `k` on, and whether none differs.
  local function alike(k)
    local n = 0
    while n < ALIKE and sum_of(n + 1) and is(k + n, sum_of(n + 1)) do n = n + 1 end
    return n, n == ALIKE or not sum_of(n + 1) or not known[k + n]
  end
  local at, _, same = 1, alike(1)
  if not same then
    -- More were popped, and as many pushed, or more; one payload alone may be that of several tasks.
    known = redis.call('LRANGE', meta(queue), 0, count + MOST)
    for i, payload in ipairs(redis.call('LRANGE', list(queue), 0, ALIKE - 1)) do
      sums[i] = sums[i] or digest(payload)
    end
    local longest = 0
    for k = 1, #known do
      local length, all = alike(k)
      if length > longest then at, longest = k, length end
      if length > 0 and all then break end
    end
  end
  local metas, used, drift, time, first = {}, {}, false, nil, nil
  for i, payload in ipairs(payloads) do
    local sum, hit = sum_of(i), nil
    for j = at, math.min(at + 99, #known) do
      if is(j, sum) then hit = j break end
    end
    if not hit and not next(used) then
      -- What is at the head is not known.
      if not first then
        first = {}
        for j = #known, at, -1 do first[string.sub(known[j], -16)] = j end
      end
      hit = first[sum]
    end
    if hit then
      drift = drift or hit ~= i
      metas[i], at, used[hit] = known[hit], hit + 1, true
    else
      if not time then even_if_full() end
      drift, time = true, time or now()
      metas[i] = redis.call('INCR', R .. 'id') .. ' ' .. time .. ' 1 ' .. sum
    end
  end
  local surplus = redis.call('LLEN', meta(queue)) - (at - 1)
      - (redis.call('LLEN', list(queue)) - #payloads)
  if drift or surplus > 0 then
    local cut, gone = at - 1 + math.max(surplus, 0), {}
    for j = 1, math.min(cut, #known) do
      if not used[j] then gone[#gone + 1] = known[j] end
    end
    forget(gone)
    redis.call('LTRIM', meta(queue), cut, -1)
    for i = #metas, 1, -1 do redis.call('LPUSH', meta(queue), metas[i]) end
  end
  return payloads, metas
end

local function delay(queue, id, head, payload, at)
  redis.call('ZADD', due(queue), string.format('%.0f', at), id)
  redis.call('HSET', later(queue), id, head .. ' ' .. payload)
end

local function put(command, queue, payload, head)
  redis.call(command, list(queue), payload)
  redis.call(command, meta(queue), head)
end

-- When: nothing for now, `+MICROSECONDS` from now, or MICROSECONDS.
local function push(queue, payload, time, when)
  local id = redis.call('INCR', R .. 'id')
  if when ~= '' then
    local at = tonumber(when)
    if string.sub(when, 1, 1) == '+' then at = at + tonumber(time) end
    if at > tonumber(time) then
      delay(queue, id, time .. ' 1', payload, at)
      return id
    end
  end
  put('RPUSH', queue, payload, id .. ' ' .. time .. ' 1 ' .. digest(payload))
  return id
end

-- Puts claimed tasks back into their old places; each is {number, "ID SUBMITTED ATTEMPT", payload}.
local function put_back(queue, tasks)
  local youngest, moved, bytes = 0, 0, 0
  -- What others have popped was at the head: behind what comes before it now, it would not be found.
  if #tasks > 0 then adopt(queue, 1) end
  for _, task in ipairs(tasks) do
    youngest = math.max(youngest, task[1])
    task[2] = task[2] .. ' ' .. digest(task[3])
  end
  -- What waits already and is older than some that come back.
  while moved < MOST and bytes < MOST_BYTES do
    local head = redis.call('LINDEX', meta(queue), 0)
    local id = head and tonumber(string.match(head, '^%d+'))
    if not id or id > youngest then break end
    local payload = redis.call('LINDEX', list(queue), 0)
    if not payload or string.sub(head, -16) ~= digest(payload) then break end
    redis.call('LPOP', meta(queue))
    redis.call('LPOP', list(queue))
    tasks[#tasks + 1] = { id, head, payload }
    moved, bytes = moved + 1, bytes + #payload
  end
  table.sort(tasks, function(a, b) return a[1] > b[1] end)
  for _, task in ipairs(tasks) do put('LPUSH', queue, task[3], task[2]) end
  tell(queue)
end

-- Makes waiting what is due by now. What was never claimed goes to the end: between the others, which
-- may be many, it would have to move all that are older.
local function ripen(queue)
  local tried, new = {}, {}
  local ids = redis.call('ZRANGEBYSCORE', due(queue), '-inf', now(), 'LIMIT', 0, MOST)
  if #ids == 0 then return end
  even_if_full()
  for _, id in ipairs(ids) do
    local value = redis.call('HGET', later(queue), id)
    if value then
      local head, payload = string.match(value, '^(%d+ %d+) (.*)$')
      local tasks = string.sub(head, -2) == ' 1' and new or tried
      tasks[#tasks + 1] = { tonumber(id), id .. ' ' .. head, payload }
    end
  end
  table.sort(new, function(a, b) return a[1] < b[1] end)
  for _, task in ipairs(new) do put('RPUSH', queue, task[3], task[2] .. ' ' .. digest(task[3])) end
  put_back(queue, tried)
  for _, id in ipairs(ids) do
    redis.call('ZREM', due(queue), id)
    redis.call('HDEL', later(queue), id)
  end
end

local function waiting(queue)
  return redis.call('LLEN', list(queue)) + redis.call('ZCOUNT', due(queue), '-inf', now())
end

local function is_paused(queue)
  return redis.call('SISMEMBER', R .. 'paused', queue) == 1
end

-- What is known of earlier attempts, as JSON, by a task's number.
local function remember(id, history)
  if history ~= '' then redis.call('HSET', R .. 'history', id, history) end
end

-- Takes a dead letter away; returns what it was.
local function exhume(letter)
  local row = redis.call('HGET', R .. 'dead', letter)
  if not row then return nil end
  local queue = string.match(row, '^%d+ (%S+)')
  if redis.call('HINCRBY', R .. 'deaths', queue, -1) <= 0 then
    redis.call('HDEL', R .. 'deaths', queue)
  end
  redis.call('HDEL', R .. 'dead', letter)
  return row
end

-- A claimed task is the field ID of the hash `claim:CLAIM`: "SUBMITTED ATTEMPT PAYLOAD".
local function claim_key(claim) return R .. 'claim:' .. claim end

local function landed(queue, count)
  if count == 0 then return end
  if redis.call('HINCRBY', R .. 'inflight', queue, -count) <= 0 then
    redis.call('HDEL', R .. 'inflight', queue)
  end
end

-- Puts all of a claim back; returns how many tasks.
local function give_back(claim, queue)
  local fields = redis.call('HGETALL', claim_key(claim))
  local tasks = {}
  for i = 1, #fields, 2 do
    local head, payload = string.match(fields[i + 1], '^(%d+ %d+) (.*)$')
    tasks[#tasks + 1] = { tonumber(fields[i]), fields[i] .. ' ' .. head, payload }
  end
  local count = #tasks
  put_back(queue, tasks)
  redis.call('DEL', claim_key(claim))
  redis.call('HDEL', R .. 'claims', claim)
  landed(queue, count)
  return count
end

-- Ends an owner; its claims go back. Those that cannot wait for it, and the owner with them.
local function end_owner(owner)
  local claims, count, stays = redis.call('HGETALL', R .. 'claims'), 0, false
  for i = 1, #claims, 2 do
    local holder, queue = string.match(claims[i + 1], '^(%d+) (.*)$')
    if holder == owner then
      if unfit(queue) then
        stays = true
      else
        count = count + give_back(claims[i], queue)
      end
    end
  end
  if not stays then redis.call('HDEL', R .. 'owners', owner) end
  return count
end
