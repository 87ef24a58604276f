"""The scripts that a store in Redis runs: each a whole, whatever else the server is asked."""

from streams.store import SHARED_KEPT_COUNT

# KEYS: one meta hash per partition, then all keys to delete, then all keys to write, then, for each
# partition of which shared keys changed, the list of such notes, one for each generation.
# ARGV: 1 = msgpack [[epoch, topics, expected offsets, new offsets, length of the note] per
# partition]; 2 = how many keys to delete; 3, 4 = msgpack byte offsets and lengths of the writes;
# 5 = their values, then the notes (msgpack names of shared keys), joined.
# Numbers of ARGV[1] are decimal text, compared as text: Lua's are doubles.
#
# Rejected, microseconds per key and commit of 15,000 values of 600 bytes, side by side on a busy
# two-core machine, where this script takes 4.4: a SET per key with the value as an argument of its
# own 6.4, with all byte offsets in one msgpack argument 7.1, joined values but a SET per key 4.9,
# MSET of values as arguments of their own 5.1. Values inside msgpack are refused: cmsgpack of
# Redis 6 does not know the `bin` type.
# A sorted set of shared keys by generation instead of one note a commit: 10 more, where this script
# takes 13 in all.
# MSET takes only a run of neighbouring whole values, so that the order of writes to a key holds.
COMMIT_LUA = """
local call, sub = redis.call, string.sub
local partitions = cmsgpack.unpack(ARGV[1])
local gap, done = nil, true
for p = 1, #partitions do
  local epoch, topics, expected, new = unpack(partitions[p])
  local stored_epoch = call('HGET', KEYS[p], 'epoch') or '0'
  if stored_epoch ~= epoch then return {'fenced', p, stored_epoch} end
  for t = 1, #topics do
    local stored = call('HGET', KEYS[p], 'offset:' .. topics[t]) or '0'
    if stored ~= expected[t] and not gap then gap = {'gap', p, topics[t], stored} end
    if stored ~= new[t] then done = false end
  end
end
if gap then
  if done then return {'already'} end
  return gap
end
local k = #partitions
for _ = 1, tonumber(ARGV[2]) do
  k = k + 1
  call('DEL', KEYS[k])
end
local starts, lengths, values = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4]), ARGV[5]
local at, run, n = 1, {}, 0
for i = 1, #starts do
  local value = sub(values, at, at + lengths[i] - 1)
  at = at + lengths[i]
  if starts[i] == 0 then
    run[n + 1], run[n + 2] = KEYS[k + i], value
    n = n + 2
    if n == 256 then call('MSET', unpack(run, 1, n)) n = 0 end
  else
    if n > 0 then call('MSET', unpack(run, 1, n)) n = 0 end
    call('SETRANGE', KEYS[k + i], starts[i], value)
  end
end
if n > 0 then call('MSET', unpack(run, 1, n)) end
for p = 1, #partitions do
  local _, topics, _, new = unpack(partitions[p])
  for t = 1, #topics do call('HSET', KEYS[p], 'offset:' .. topics[t], new[t]) end
end
local set = k + #starts
for p = 1, #partitions do
  local length = partitions[p][5]
  if length > 0 then
    set = set + 1
    call('HINCRBY', KEYS[p], 'shared', 1)
    call('RPUSH', KEYS[set], sub(values, at, at + length - 1))
    call('LTRIM', KEYS[set], -KEPT, -1)
    at = at + length
  end
end
return {'applied'}
""".replace("KEPT", str(SHARED_KEPT_COUNT))

ACQUIRE_LUA = """
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return redis.call('HGETALL', KEYS[1])
"""

SHARED_LUA = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'shared')
local epoch, generation = meta[1] or '0', meta[2] or '0'
local behind = tonumber(generation) - tonumber(ARGV[2])
if epoch ~= ARGV[1] or behind < 0 then return {epoch, generation} end
local notes = behind > 0 and redis.call('LRANGE', KEYS[2], -behind, -1) or {}
if #notes < behind then return {epoch, generation} end
return {epoch, generation, notes}
"""
