"""Ends with 0 if the api-server has lately heard of a part of Airflow that has no port of its own.

usage: component_health.py triggerer|dag_processor
"""

import json
import sys
import urllib.request

HEALTH = "http://airflow-api-server:8080/api/v2/monitor/health"

with urllib.request.urlopen(HEALTH, timeout=8) as answer:
    sys.exit(json.load(answer)[sys.argv[1]]["status"] != "healthy")
