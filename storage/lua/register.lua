-- Enters sessions of one user, or keeps them entered.
-- KEYS[1]  sessions
-- KEYS[2]  watchers
-- ARGV[1]  time to live, ms
-- ARGV[2]  "1": take the place of others, whatever their age; "0", a renewal: leave a
--          place that a session not older has taken
-- ARGV[3]  how many devices may be entered; "0": any number. Renewals are not counted.
-- ARGV[4…] device, "session|node", platform, since, policy, …
-- reply    {device, the entry of another session that was replaced, …},
--          {device, the given entry that was refused, …},
--          {node that watches, …}: none where nobody can see a difference
local ttl, take, most = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local all = redis.call('HGETALL', KEYS[1])
local old, n = {}, 0
for i = 1, #all, 2 do
  if all[i] ~= '~seen' then
    local entry, platform, since, ends = string.match(all[i + 1], '^([^|]*|[^|]*)|([^|]*)|(%d+)|(%d+)$')
    if not entry or tonumber(ends) <= now then
      redis.call('HDEL', KEYS[1], all[i])
    else
      old[all[i]] = {entry, platform, tonumber(since)}
      n = n + 1
    end
  end
end
local replaced, refused, changed = {}, {}, false
for i = 4, #ARGV, 5 do
  local device, entry, platform, since, policy = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local rivals, fits = {}, true
  for d, o in pairs(old) do
    local clash = policy == 'one' or (policy == 'one_per_platform' and o[2] == platform)
    if d == device then clash = o[1] ~= entry end
    if clash then
      if not take and o[3] >= since then fits = false end
      rivals[#rivals + 1] = d
    end
  end
  if take and most > 0 and not old[device] and n - #rivals >= most then fits = false end
  if not fits then
    refused[#refused + 1] = device
    refused[#refused + 1] = entry
  else
    for _, d in ipairs(rivals) do
      replaced[#replaced + 1] = d
      replaced[#replaced + 1] = old[d][1]
      if d ~= device then
        redis.call('HDEL', KEYS[1], d)
        old[d] = nil
        n = n - 1
        changed = true
      end
    end
    if not old[device] then
      n = n + 1
      changed = true
    elseif old[device][2] ~= platform or #rivals > 0 then
      changed = true
    end
    old[device] = {entry, platform, since}
    redis.call('HSET', KEYS[1], device, entry .. '|' .. platform .. '|' .. ARGV[i + 3] .. '|' .. string.format('%.0f', now + ttl))
  end
end
redis.call('PEXPIRE', KEYS[1], ttl)
local watchers = {}
if changed then
  watchers = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now), '+inf')
end
return {replaced, refused, watchers}
