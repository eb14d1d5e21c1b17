--- The signer by itself, for those who send by their own means.

local api = require "rtc.api"
local core = require("rtc.native").load("rtc.core")
local options = require "rtc.options"

local signer = {}

---@class rtc.Signer.Options
---@field access_key string
---@field secret_key string
---@field session_token string|nil  of temporary keys
---@field region string|nil  default "cn-north-1"
---@field service string|nil  default "rtc"

---@class rtc.Signer.Request
---@field method string
---@field host string  as it is sent in the Host header: with a port unless it is the scheme's own
---@field path string|nil  default "/"
---@field query string[][]|nil  { { name, value }, … }
---@field headers string[][]|nil  { { name, value }, … }; Host, X-Date, X-Content-Sha256 and X-Security-Token are added
---@field body string|nil  the exact bytes; default ""
---@field time integer|nil  Unix seconds; default now
---@field signed_headers string[]|nil  lower-case names, in the order to sign them; default all of them, sorted

---@class rtc.Signer.Signed
---@field headers table<string, string>  every header to send, Authorization among them
---@field query string  encoded: goes into the URL unchanged

---@class rtc.Signer.Explanation
---@field canonical_request string
---@field string_to_sign string
---@field signed_headers string  "content-type;host;…"
---@field signature string  lower-case hex
---@field credential_scope string  "YYYYMMDD/region/service/request"

--- Signs by Volcengine's HMAC-SHA256 ("V4"). A userdata: the keys cannot be read back from it.
---@class rtc.Signer
---@field sign fun(self: rtc.Signer, request: rtc.Signer.Request): rtc.Signer.Signed|nil, rtc.Error|nil
---@field explain fun(self: rtc.Signer, request: rtc.Signer.Request): rtc.Signer.Explanation|nil, rtc.Error|nil

--- Makes a signer.
---@param given rtc.Signer.Options
---@return rtc.Signer|nil
---@return string|nil problem
function signer.new(given)
  local checked, problem = options.check(options.signer, given)
  if not checked then
    return nil, problem
  end
  for _, name in ipairs { "access_key", "secret_key" } do
    if not checked[name] then
      return nil, name .. " is missing"
    end
  end
  return core.signer(checked.access_key, checked.secret_key, checked.session_token,
    checked.region or api.default_region, checked.service or api.service)
end

return signer
