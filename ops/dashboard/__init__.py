"""The dashboard: a web application that reads topics and the processes' pages, and writes nothing on its own."""
