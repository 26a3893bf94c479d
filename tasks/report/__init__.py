"""`report.html`: what the engine did to a dataset, in one file that opens offline."""
