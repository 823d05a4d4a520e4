-- Drops what one user's projection says, so that it is built anew from nothing: a
-- rebuild only raises, and leaves a number that is too high as it is.
-- KEYS[1]  state      KEYS[2]  convs      KEYS[3]  vers      KEYS[4]  offline
-- KEYS[5]  merged     KEYS[6]  settings
-- ARGV[1]  a token: a rebuild that was begun before this one was set seals nothing, since
--          what was written between its reading and now is gone
-- reply    nothing
--
-- The notes of changes of settings that are under way stay: see settings.lua. The
-- offline lists' keys are made here, from KEYS[4] and so with its hash tag.
local call = redis.call
local lists = {}
for _, conv in ipairs(call('HKEYS', KEYS[1])) do lists[conv] = true end
for _, conv in ipairs(call('ZRANGE', KEYS[4], 0, -1)) do lists[conv] = true end
for conv in pairs(lists) do
  if string.byte(conv) == 100 then -- d
    call('DEL', KEYS[4] .. ':' .. conv)
  end
end
local open = call('HGET', KEYS[6], '~open')
call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
if open then call('HSET', KEYS[6], '~open', open) end
call('HSET', KEYS[1], '~void', ARGV[1])
return 1
