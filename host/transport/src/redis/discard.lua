-- ARGV[3...]: letters. Returns how many there were.
local count = 0
for i = 3, #ARGV do
  if exhume(ARGV[i]) then count = count + 1 end
end
return count
