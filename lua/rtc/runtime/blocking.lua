--- The runtime that waits by blocking: for a prompt and for scripts that have nothing else to do.

local native = require "rtc.native"

local blocking = {}

---@class rtc.Runtime
---@field request fun(req: table): table|nil, table|nil  one exchange; what `rtc.engine` takes and gives
---@field sleep fun(seconds: number)
---@field now fun(): number  monotonic seconds
---@field spawn fun(fn: function)  here: runs `fn` at once, to its end

--- Makes a runtime with an engine of its own. Raises inside nginx's workers, which must not block.
---@param options table|nil  the engine's options
---@return rtc.Runtime
function blocking.new(options)
  local core = native.load("rtc.engine")
  local engine = core.new(options)
  local abandoned -- the exchange of a request that an error (Ctrl-C at a prompt) cut short

  local runtime = { now = core.now }

  function runtime.request(req)
    if abandoned then
      engine:cancel(abandoned) -- else it would go out now, although its caller was told of an error
    end
    local id, err = engine:submit(req)
    abandoned = id
    if not id then
      return nil, err
    end
    local exchange
    while not exchange or exchange.id ~= id do -- another's: cut short before its id was kept
      engine:step()
      exchange = engine:next()
      if not exchange then
        engine:wait()
      end
    end
    abandoned = nil
    if exchange.status then
      return exchange
    end
    return nil, exchange
  end

  function runtime.sleep(seconds)
    local wake = core.now() + seconds
    local left = seconds
    while left > 0 do
      engine:wait(left)
      engine:step() -- idle connections that a server closes would else wake us again and again
      left = wake - core.now()
    end
  end

  function runtime.spawn(fn)
    fn()
  end

  return runtime
end

return blocking
