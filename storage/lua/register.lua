-- Enters sessions of one user, or keeps them entered.
-- KEYS[1]  sessions
-- ARGV[1]  time to live, ms
-- ARGV[2]  "1": take the place of another session of the device; "0", a renewal:
--          leave a place that a newer session has taken
-- ARGV[3…] device, "session|node", …
-- reply    {device, the entry that was replaced by another session, …}
local ttl = tonumber(ARGV[1])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local replaced = {}
local all = redis.call('HGETALL', KEYS[1])
local old = {}
for i = 1, #all, 2 do
  local entry, ends = string.match(all[i + 1], '^(.*)|(%d+)$')
  if not entry or tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    old[all[i]] = entry
  end
end
for i = 3, #ARGV, 2 do
  local had = old[ARGV[i]]
  local other = had and had ~= ARGV[i + 1]
  if other and ARGV[2] == '1' then
    replaced[#replaced + 1] = ARGV[i]
    replaced[#replaced + 1] = had
  end
  if not other or ARGV[2] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. '|' .. string.format('%.0f', now + ttl))
  end
end
redis.call('PEXPIRE', KEYS[1], ttl)
return replaced
