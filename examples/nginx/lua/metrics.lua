--- What the clients of all workers count, as text for Prometheus.
---
--- A worker can't look into another one: each publishes its own counters in a `lua_shared_dict`, and whoever is asked
--- shows all. The label `worker` is the process's number, since a reload starts workers anew, at zero, while the old
--- ones still send what they have.

local client = require "client"
local json = require "cjson.safe".new()
local prometheus = require "rtc.prometheus"

local metrics = {}

--- Seconds between two times.
local EVERY = 1
--- Seconds for which the counters of a worker that has ended are shown: longer than Prometheus waits between two looks.
local KEPT = 300

--- Publishes this worker's counters.
function metrics.publish()
  local done, problem = ngx.shared.metrics:set(ngx.worker.pid(), json.encode(client:stats()), KEPT)
  if not done then
    ngx.log(ngx.ERR, "the counters of this worker are not published: ", problem)
  end
end

--- Does so from now on.
function metrics.publish_always()
  metrics.publish()
  assert(ngx.timer.every(EVERY, metrics.publish))
end

--- Serves the text.
function metrics.serve()
  metrics.publish()
  local workers = {}
  for _, pid in ipairs(ngx.shared.metrics:get_keys()) do
    local stats = ngx.shared.metrics:get(pid)
    workers[#workers + 1] = stats and { labels = { worker = pid }, stats = json.decode(stats) }
  end
  ngx.header["Content-Type"] = prometheus.content_type
  ngx.print(prometheus.text(workers))
end

return metrics
