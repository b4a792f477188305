"""How a deployment does: read from Kafka and from the pages of its processes, judged, and said in words.

Below the dashboard and the command line, which show it; knows nothing of pages or terminals.
"""
