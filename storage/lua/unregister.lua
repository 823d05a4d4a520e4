-- Deletes entries of one user, each only if it is still that session's, and notes
-- when the last one went.
-- KEYS[1]  sessions
-- KEYS[2]  watchers
-- ARGV[1]  time to live, ms
-- ARGV[2…] device, "session|node", …
-- reply    {node that watches, …}: none where nothing was deleted
local gone = 0
for i = 2, #ARGV, 2 do
  local have = redis.call('HGET', KEYS[1], ARGV[i])
  if have and string.match(have, '^([^|]*|[^|]*)|') == ARGV[i + 1] then
    gone = gone + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
if gone == 0 then
  return {}
end
local t = redis.call('TIME')
local now = string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
redis.call('HSET', KEYS[1], '~seen', now)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')
