"""Links that a test can cut, proxies and load balancers that fail, certificates, and a recorder of the traffic."""
