-- Takes up to n tokens of a bucket (GCRA: one number, the time at which the bucket
-- is full again).
-- KEYS[1]  the bucket
-- ARGV[1]  n      ARGV[2]  microseconds for one token      ARGV[3]  burst
-- reply    {granted, microseconds until one is there}
local n, each, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
if full < now then full = now end
local free = math.floor((now + burst * each - full) / each)
if free < 1 then
  return {0, math.ceil(full + each - (now + burst * each))}
end
if n > free then n = free end
full = full + n * each
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return {n, 0}
