-- Adds to a conversation's uncounted seqs, keeps the newest and seals on demand.
-- KEYS[1]  uncounted
-- ARGV[1]  generation to seal with; "" from writers
-- ARGV[2]  how many to keep      ARGV[3]  time to live, ms
-- ARGV[4…] score, member, …; with a seal the newest there are
-- reply    nothing
--
-- A set that holds so many may have lost what is below its least: nothing is added
-- there, or the least would look as if all above it were known.
local keep = tonumber(ARGV[2])
local floor = -1
if ARGV[1] ~= '' then
  if (#ARGV - 3) / 2 >= keep then
    floor = tonumber(ARGV[4])
    for i = 4, #ARGV, 2 do floor = math.min(floor, tonumber(ARGV[i])) end
    redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, '(' .. string.format('%.0f', floor))
  end
elseif redis.call('ZCOUNT', KEYS[1], 0, '+inf') >= keep then
  local least = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  floor = tonumber(least[2])
end
local add = {}
for i = 4, #ARGV, 2 do
  if tonumber(ARGV[i]) >= floor then
    add[#add + 1] = ARGV[i]
    add[#add + 1] = ARGV[i + 1]
  end
end
if #add > 0 then redis.call('ZADD', KEYS[1], unpack(add)) end
if ARGV[1] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], -1, -1)
  redis.call('ZADD', KEYS[1], -1, '~' .. ARGV[1])
end
if redis.call('ZCARD', KEYS[1]) > keep + 64 then
  local first = redis.call('ZCOUNT', KEYS[1], -1, -1)
  redis.call('ZREMRANGEBYRANK', KEYS[1], first, -keep - 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
