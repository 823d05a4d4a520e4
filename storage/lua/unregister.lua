-- Deletes entries of one user, each only if it is still that session's.
-- KEYS[1]  sessions
-- ARGV     device, "session|node", …
-- reply    how many were deleted
local gone = 0
for i = 1, #ARGV, 2 do
  local have = redis.call('HGET', KEYS[1], ARGV[i])
  if have and string.match(have, '^(.*)|%d+$') == ARGV[i + 1] then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return gone
