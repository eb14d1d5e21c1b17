--- What the module says to a script, in the words of the command line.

local words = {}

--- The module's words and ours, in the order in which they are replaced.
local dictionary = {
  { "pass access_key and secret_key %(or a function, as credentials%) to rtc%.new, or set ", "set " },
  { "pass access_key and secret_key", "set VOLC_ACCESSKEY and VOLC_SECRETKEY" },
  { "pass it in the call or to rtc%.new, or set ", "give it, or set " },
  { "pass it in the call", "give it" },
  { ",? or pass allow_http = true", "" },
  { "binary = true", "--binary" },
  { "split = true", "--split" },
  { "err%.parts says which", "--json says which" },
  { 'rtc%.new "sandbox"', "--endpoint sandbox" },
  { "access_key %(VOLC_ACCESSKEY%)", "VOLC_ACCESSKEY" },
  { "secret_key %(VOLC_SECRETKEY%)", "VOLC_SECRETKEY" },
  { "%f[%w_]access_key%f[^%w_]", "VOLC_ACCESSKEY" }, -- and not the file's secret_access_key
  { "%f[%w_]secret_key%f[^%w_]", "VOLC_SECRETKEY" },
  { "room_id", "--room" },
  { "app_id", "--app" },
}

--- The names of options that are ordinary words, too: replaced only where a message begins with the field at fault.
local options = {
  to = "--to", from = "--from", method = "--method", query = "--query", version = "--api-version",
  timeout = "--timeout", split = "--split",
}

---@param text string  of the module's own
---@return string
function words.translate(text)
  for _, entry in ipairs(dictionary) do
    text = text:gsub(entry[1], entry[2])
  end
  return text
end

--- An error in these words. What the service said stays as it is.
---@param err rtc.Error
---@return rtc.Error err  the same one
function words.in_error(err)
  if err.kind == "argument" or err.kind == "config" then
    local option, rest = options[err.field], err.message:match("^[%a_]+(.*)$")
    err.message = words.translate(option and option .. rest or err.message)
  end
  err.advice = err.advice and words.translate(err.advice)
  return err
end

--- An error as text.
---@param err rtc.Error
---@return string
function words.of_error(err)
  return tostring(words.in_error(err))
end

return words
