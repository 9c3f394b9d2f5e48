"""What a doctor reports of streams' copies and of consumers, by what the server reports of them: no I/O."""

from collections.abc import Mapping

from edge_broker import layout, subjects
from edge_broker.doctor.check_ids import CONSUMERS, REPLICAS
from edge_broker.jetstream.consumer_info import ConsumerInfo
from edge_broker.jetstream.stream_info import StreamInfo
from edge_service.findings import Finding, failed, ok, warning


def replicas_finding(streams: Mapping[str, StreamInfo], *, clustered: bool) -> Finding:
    """How many copies there are of the streams."""
    single, behind = [], []
    for name, info in streams.items():
        if clustered and _copies(info) < 2:
            single.append(name)
        peers = (info.get("cluster") or {}).get("replicas") or ()
        behind += [f"{name} on {peer['name']}" for peer in peers if peer.get("offline") or not peer.get("current")]
    if behind:
        return warning(REPLICAS, f"copies are offline or behind: {', '.join(behind)}", "Are all servers of NATS up?")
    if single:
        text = (
            "Run 'edge-relay streams apply --replicas 3': a stream with one copy is offline whenever the server that "
            "holds it is."
        )
        return warning(REPLICAS, f"one copy only, in a cluster: {', '.join(single)}", text)
    fewest = min(map(_copies, streams.values()), default=1)
    where = "a cluster" if clustered else "a single server"
    return ok(REPLICAS, f"copies of each stream: {fewest}, on {where}")


def _copies(info: StreamInfo) -> int:
    return info["config"].get("num_replicas") or 1


def consumer_fault(info: ConsumerInfo) -> Finding | None:
    """What is wrong with a consumer of `EDGE_JOBS`; None if nothing is."""
    name, config = info["name"], info["config"]
    try:
        team, queue, kind, _ = subjects.parse_job_subject(config.get("filter_subject", ""))
    except ValueError:
        text = f"It removes jobs from the queues. If nothing needs it: 'nats consumer rm {subjects.JOBS} {name}'."
        return warning(CONSUMERS, f"consumer {name} is of no queue", text)
    wanted = layout.consumer_config(team, queue, kind)
    wrong = layout.differences(wanted, config)
    if wrong:
        what = "; ".join(f"{option} is {config.get(option)!r}, not {wanted.get(option)!r}" for option in wrong)
        return failed(CONSUMERS, f"consumer {name} of queue {queue}: {what}", _advice(name, wrong))
    if info.get("paused"):
        text = f"No job of it is handed out. 'nats consumer resume {subjects.JOBS} {name}' ends the pause."
        return warning(CONSUMERS, f"queue {queue} is paused", text)
    return None


def _advice(name: str, wrong: list[str]) -> str:
    remove = f"'nats consumer rm {subjects.JOBS} {name}' as admin"
    if "max_waiting" in wrong:
        return f"It can't be changed: {remove}; its jobs stay, and a scheduler makes it again within a minute."
    return f"A scheduler repairs it within a minute where jobs wait. Or {remove}: its jobs stay, and it is made again."
