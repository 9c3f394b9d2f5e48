"""Health check for a component of Airflow without its own port; exits with 0 if its last heartbeat is recent.

The api-server reports the heartbeats.

usage: component_health.py triggerer|dag_processor
"""

import json
import sys
import urllib.request

HEALTH = "http://airflow-api-server:8080/api/v2/monitor/health"

with urllib.request.urlopen(HEALTH, timeout=8) as answer:
    sys.exit(json.load(answer)[sys.argv[1]]["status"] != "healthy")
