--- The environment's variables. One that is set to nothing counts as not set.

local environment = {}

---@param name string
---@return string|nil
function environment.get(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

--- In the order in which libcurl looks; HTTP_PROXY is not among them, since in CGI a request's header sets it.
local proxies = {
  https = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" },
  http = { "http_proxy", "all_proxy", "ALL_PROXY" },
}

--- The variable that names a proxy for URLs of a scheme. Its value may hold a password: it is not for messages.
---@param scheme "https"|"http"
---@return string|nil name
function environment.proxy(scheme)
  for _, name in ipairs(proxies[scheme]) do
    if environment.get(name) then
      return name
    end
  end
end

return environment
