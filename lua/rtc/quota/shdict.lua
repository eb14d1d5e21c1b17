--- The store of the rate limit for all workers of nginx: GCRA in a `lua_shared_dict`.
---
--- A dict can't replace a value on condition that it is still the one that was read; but of many that add a key only
--- one succeeds. So a limit's messages are numbered, and to take the slot after number n is to add the key n + 1, whose
--- value is GCRA's state from then on; whoever comes second reads it and tries the next. The latest number and state
--- are kept beside, to begin at: they lag behind by those that are just being taken and no more, since who writes them
--- looks whether the next number is there already. So nobody waits for a lock, and a worker that dies leaves none.

local core = require("rtc.native").load("rtc.core")
local gcra = require "rtc.quota.gcra"

local shdict = {}

--- Seconds for which numbers are kept. Who was stopped for half as long, and might have missed one, tries again.
local KEPT = 1

--- They are counted round: the latest is kept as the flags of its state, an integer of 32 bits.
local NUMBERS = 2 ^ 30

--- Makes a store on a dict. Raises, at the caller's line, when there is none of that name.
---@param name string  of a `lua_shared_dict`; other things may be in it, too
---@return rtc.QuotaStore
function shdict.new(name)
  local dict = ngx and ngx.shared[name]
  if not dict then
    error(('there is no lua_shared_dict %s: write `lua_shared_dict %s 1m;` into the http block of nginx.conf')
      :format(name, name), 2)
  end

  --- Adds or sets, and says whether it was done. Evicts nothing that somebody still needs.
  local function write(method, ...)
    local done, problem = dict[method](dict, ...)
    if problem == "no memory" then
      dict:flush_expired() -- nginx does so by itself only until it meets an older one that lives on
      done, problem = dict[method](dict, ...)
    end
    if problem == "no memory" then
      error(("lua_shared_dict %s is full: make it larger in nginx.conf. It takes some 150 bytes for each message a "
        .. "second, and as many again for each second of quota.max_wait"):format(name), 0)
    elseif not done and problem ~= "exists" then
      error(("lua_shared_dict %s: %s"):format(name, problem), 0)
    end
    return done
  end

  local function numbered(id, number)
    return id .. ":" .. number % NUMBERS
  end

  --- Takes the first slot that nobody else takes.
  ---@return number|nil wait, number due_or_retry_after, integer|nil number
  local function claim(id, now, rate, burst, max_wait)
    local due, number = dict:get(id)
    while true do
      number = (number or 0) + 1
      local wait, next_due = gcra.next(due, now, rate, burst)
      if wait > max_wait then
        return nil, wait
      elseif write("safe_add", numbered(id, number), next_due, KEPT) then
        return wait, next_due, number
      end
      due = dict:get(numbered(id, number)) or due -- or it was forgotten a moment ago
    end
  end

  --- Lets all others begin after this number, or the latest after it.
  local function publish(id, now, due, number)
    repeat
      write("safe_set", id, due, due - now + 2 * KEPT, number % NUMBERS)
      number = number + 1
      due = dict:get(numbered(id, number))
    until not due
  end

  --- Takes a slot, as `rtc.QuotaStore` says. Raises when the dict is full. Never yields: fit for all phases.
  local function take(key, now, rate, burst, max_wait)
    local id = "rtc:" .. ngx.md5_bin(key) -- short: an entry takes 128 bytes, and with a key of 53 twice as much
    local started, wait, due, number
    repeat
      started = core.now()
      ngx.update_time() -- what the dict keeps ends by nginx's time, which stands still while a worker works
      wait, due, number = claim(id, now, rate, burst, max_wait)
      if not wait then
        return nil, due
      end
    until core.now() - started < KEPT / 2
    publish(id, now, due, number)
    return wait
  end

  return { take = take }
end

--- Makes a store on the dict `rtc_quota`.
---@return rtc.QuotaStore|nil  nil outside nginx, and when it has no such dict
function shdict.find()
  return ngx and ngx.shared.rtc_quota and shdict.new "rtc_quota" or nil
end

return shdict
