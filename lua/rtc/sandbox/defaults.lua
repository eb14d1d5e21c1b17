--- The sandbox's ready-made keys and address: constants only, read by the sandbox, by the client's
--- `endpoint = "sandbox"` and by the command line. Nothing here is secret: no other service knows these keys.
return {
  host = "127.0.0.1",
  port = 8790,
  access_key = "AKLTsandbox",
  secret_key = "sandbox-secret-key",
  app_id = "sandboxapp00000000000001",
  from = "server",
  region = "cn-north-1",
}
