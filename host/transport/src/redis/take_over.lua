-- ARGV[3] owner, ARGV[4] its record as last seen, or nothing if it says so itself. Returns how many
-- tasks wait again; -1 when it has given a sign of life.
local record = redis.call('HGET', R .. 'owners', ARGV[3])
if ARGV[4] ~= '' and record ~= ARGV[4] then return -1 end
even_if_full()
return end_owner(ARGV[3])
