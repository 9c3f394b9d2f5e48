// Links to Airflow's own pages.

/** The page of a task instance in Airflow; null if Airflow's address or the task is not known. */
export function taskUrl(base, job) {
  if (!base || !job.dag_id || !job.run_id || !job.task_id || !/^https?:\/\//.test(base)) return null;
  const parts = [job.dag_id, "runs", job.run_id, "tasks", job.task_id].map(encodeURIComponent);
  const mapped = job.map_index >= 0 ? `/mapped/${job.map_index}` : "";
  const attempt = job.try_number ? `?try_number=${job.try_number}` : "";
  return `${base.replace(/\/$/, "")}/dags/${parts.join("/")}${mapped}${attempt}`;
}
