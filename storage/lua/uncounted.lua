-- Adds to a conversation's uncounted seqs, keeps the newest and seals on demand.
-- KEYS[1]  uncounted
-- ARGV[1]  generation to seal with; "" from writers
-- ARGV[2]  how many to keep      ARGV[3]  time to live, ms
-- ARGV[4…] score, member, …
-- reply    nothing
local add = {}
for i = 4, #ARGV do add[#add + 1] = ARGV[i] end
if #add > 0 then redis.call('ZADD', KEYS[1], unpack(add)) end
if ARGV[1] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], -1, -1)
  redis.call('ZADD', KEYS[1], -1, '~' .. ARGV[1])
end
local keep = tonumber(ARGV[2])
if redis.call('ZCARD', KEYS[1]) > keep + 64 then
  local first = redis.call('ZCOUNT', KEYS[1], -1, -1)
  redis.call('ZREMRANGEBYRANK', KEYS[1], first, -keep - 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
