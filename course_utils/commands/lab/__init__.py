"""``course lab``: students' copies in JupyterLab, and a browser that drives it for tests and measurements."""
