-- The clock of the master that has a key.
-- KEYS[1]  the key
-- reply    {seconds, microseconds} since 1970
return redis.call('TIME')
