--- The documented error codes: the gateway's with their numbers, HTTP status and text, and the RTC service's.
local codes = {}

---@type table<string, {n: integer, status: integer, text: string}>
codes.gateway = {
  MissingParameter = { n = 100002, status = 400, text = "The request is missing %s parameter." },
  MissingAuthenticationToken = { n = 100003, status = 401, text = "Request is missing Authentication Token" },
  MissingRequestInfo = { n = 100004, status = 400, text = "The request is missing %s information." },
  MissingSignature = { n = 100005, status = 401, text = "The request is missing signature." },
  InvalidTimestamp = { n = 100006, status = 400, text = "The Signature of the request is expired." },
  ServiceNotFound = { n = 100007, status = 404, text = "This service[%s] not found." },
  InvalidActionOrVersion = { n = 100008, status = 404, text = "Could not find operation %s for version %s." },
  InvalidAccessKey = { n = 100009, status = 401, text = "The accesskey [%s] included in the request is invalid." },
  SignatureDoesNotMatch = {
    n = 100010,
    status = 401,
    text = "The request signature we calculated does not match the signature you provided. "
      .. "Check your Secret Access Key and signing method. Consult the service documentation for details.",
  },
  -- The number comes from third parties, the text is ours.
  MethodNotAllowed = { n = 100020, status = 405, text = "The HTTP method %s is not allowed for %s." },
  InvalidAuthorization = {
    n = 100024,
    status = 400,
    text = "Invalid 'Authorization' header, Pls check your authorization header.",
  },
  -- The number was seen, that it belongs to this code is inferred.
  InvalidCredential = {
    n = 100025,
    status = 400,
    text = "Invalid credential in 'Authorization', Pls check your authorization header.",
  },
  -- The number is inferred.
  InvalidSecretToken = { n = 100026, status = 401, text = "Invalid secret token, msg: %s." },
}

-- The service's own codes have no number. Their texts are not documented: these are ours.
---@type table<string, string>
codes.service = {
  ["InvalidParameter"] = "The field %s is required.",
  ["InvalidParameter.BodyIsEmpty"] = "The request body is empty.",
  ["InvalidParameter.Unmarshal"] = "The request body cannot be parsed: %s.",
  ["InvalidParameter.IllegalAppId"] = "The AppId is illegal.",
  ["InvalidParameter.NotExistAppId"] = "The AppId does not exist.",
  ["InvalidParameter.IllegalRoomID"] = "The RoomId is illegal.",
  ["InvalidParameter.IllegalFrom"] = "The From is illegal.",
  ["InvalidParameter.IllegalTo"] = "The To is illegal.",
  ["InvalidParameter.UserCountOverLimit"] = "The message is for %s users, the limit is %s.",
  ["InvalidParameter.SizeOverLimit"] = "The message is %s bytes, the limit is %s.",
  ["FlowLimitExceeded.QPSOverLimit"] = "The AppId sends more than %s messages a second.",
}

return codes
