-- busted's output for tools/test: a line a spec file, every failure in full as soon as it happens, and the totals in
-- a file (-Xoutput PATH) whose last line is "end PASSED FAILED SKIPPED" only when the run came to its end.
local monotime = require("system").monotime

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local totals = { success = 0, failure = 0, pending = 0 }
  local in_file, file_started

  local function record(state)
    local file = assert(io.open(options.arguments[1], "w"))
    file:write(("%s %d %d %d\n"):format(state, totals.success, totals.failure, totals.pending))
    file:close()
  end

  local function count(what)
    totals[what] = totals[what] + 1
    in_file[what] = in_file[what] + 1
    record("running")
  end

  local function describe(failure)
    local message = failure.message
    if type(message) ~= "string" then
      message = require("pl.pretty").write(message)
    end
    local trace = failure.trace or failure.element.trace or {}
    local where = trace.short_src and ("%s:%s: "):format(trace.short_src, trace.currentline) or ""
    io.stdout:write("FAILED ", where, failure.name, "\n    ", (message:gsub("\n", "\n    ")), "\n")
    if failure.isError and trace.traceback then
      io.stdout:write("    ", (trace.traceback:gsub("^\n", ""):gsub("\n", "\n    ")), "\n")
    end
    io.stdout:flush()
  end

  function handler.fileStart()
    in_file = { success = 0, failure = 0, pending = 0 }
    file_started = monotime()
    return nil, true
  end

  function handler.fileEnd(file)
    io.stdout:write(("%-40s %4d passed%s%s %7.1f s\n"):format(file.name, in_file.success,
      in_file.failure > 0 and (", %d FAILED"):format(in_file.failure) or "",
      in_file.pending > 0 and (", %d skipped"):format(in_file.pending) or "", monotime() - file_started))
    io.stdout:flush()
    return nil, true
  end

  function handler.testEnd(_, _, status)
    if status == "failure" then
      count("failure")
      describe(handler.failures[#handler.failures])
    elseif status == "error" then
      count("failure")
      describe(handler.errors[#handler.errors])
    elseif status == "pending" then
      count("pending")
      local skipped = handler.pendings[#handler.pendings]
      io.stdout:write("skipped ", skipped.name, skipped.message and ": " .. tostring(skipped.message) or "", "\n")
    else
      count("success")
    end
    return nil, true
  end

  -- What goes wrong outside of a test: a file that does not load, a setup that raises.
  function handler.elsewhere(element)
    if element.descriptor ~= "it" then
      in_file = in_file or { success = 0, failure = 0, pending = 0 }
      count("failure")
      describe(handler.errors[#handler.errors])
    end
    return nil, true
  end

  function handler.suiteEnd()
    record("end")
    return nil, true
  end

  record("running")
  busted.subscribe({ "file", "start" }, handler.fileStart)
  busted.subscribe({ "file", "end" }, handler.fileEnd)
  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "error" }, handler.elsewhere)
  busted.subscribe({ "failure" }, handler.elsewhere)
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  return handler
end
