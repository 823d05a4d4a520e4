-- Notes that a user's settings are about to change in MySQL. A note that is not taken
-- away by the projection of that change (settings.lua) makes readers ask MySQL once
-- its time is over.
-- KEYS[1]  settings
-- ARGV[1]  the note's token      ARGV[2]  now      ARGV[3]  when its time is over, Unix ms
-- reply    nothing
--
-- The field ~open is "token time token time …". Of those whose time is over one is as
-- good as all, which bounds them.
local kept, over = {}, false
for token, due in string.gmatch(redis.call('HGET', KEYS[1], '~open') or '', '(%S+) (%d+)') do
  if tonumber(due) > tonumber(ARGV[2]) or not over then
    over = over or tonumber(due) <= tonumber(ARGV[2])
    kept[#kept + 1] = token .. ' ' .. due
  end
end
kept[#kept + 1] = ARGV[1] .. ' ' .. ARGV[3]
redis.call('HSET', KEYS[1], '~open', table.concat(kept, ' '))
return 1
