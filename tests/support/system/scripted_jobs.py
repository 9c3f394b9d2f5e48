"""Jobs for agents with the fake runtime, for tests of whose processes run and not of what they load."""

from edge_schemas.wire.jobs import Job
from support.system.site import Machine, Site

_SCRIPT = """
ledger, flag = open({ledger!r}, "a", buffering=1), {flag!r}
def note(what):
    line = dict(job=os.environ["JOB"], pid=os.getpid(), what=what, at=time.time())
    ledger.write(json.dumps(line) + "\\n")
ti = "task-instances/" + os.environ["TI"]
run = {{"hostname": "h", "pid": os.getpid(), "unixname": "u", "state": "running"}}
assert call("PATCH", ti + "/run", run, "run-00001")[0] == 200
note("begin")
while not os.path.exists(flag): time.sleep(0.05)
note("end")
assert succeed() == 204
"""


def scripted_job(site: Site, worker: Machine) -> Job:
    """A job that runs until its flag is there, as a script; not published yet."""
    job = site.prepare(worker)
    script = _SCRIPT.format(ledger=site.jobs[job.id].conf["ledger"], flag=str(site.flag(job.id)))
    work = job.work.model_copy(update={"workload": {"script": script}})
    return job.model_copy(update={"work": work})
