-- Raises how far a channel that is merged at read has come. Every number only rises;
-- when any did, the time says so.
-- KEYS[1]  end
-- ARGV[1]  generation to seal with; "" from writers
-- ARGV[2]  time to live, ms
-- ARGV[3]  six packed numbers: last seq, last ID, last change, last uncounted, last
--          mention, closed
-- reply    what is kept: the six numbers, when one last rose (µs), the seal or ""
--
-- Numbers are compared as decimal strings: see raise.lua.
local numbers = '(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)'
local function above(v, w) return #v > #w or (#v == #w and v > w) end

local new = {string.match(ARGV[3], '^' .. numbers .. '$')}
local old = redis.call('GET', KEYS[1])
local now = {string.match(old or '', '^' .. numbers)}
local at, seal = string.match(old or '', '(%d+) (%S*)$')
local rose = not now[6] or not at
if rose then now, seal = {'0', '0', '0', '0', '0', '0'}, '' end
-- Nobody sees what came after the channel's end.
local beyond = now[6] ~= '0' and above(new[1], now[6])
for k = beyond and 6 or 1, 6 do
  if above(new[k], now[k]) then
    now[k] = new[k]
    rose = true
  end
end
if not rose and (ARGV[1] == '' or ARGV[1] == seal) then
  return old
end
if rose then
  local t = redis.call('TIME')
  at = t[1] .. string.format('%06d', tonumber(t[2]))
end
if ARGV[1] ~= '' then seal = ARGV[1] end
local kept = table.concat(now, ' ') .. ' ' .. at .. ' ' .. seal
redis.call('SET', KEYS[1], kept, 'PX', ARGV[2])
return kept
