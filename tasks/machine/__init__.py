"""How stages are declared, planned and run: the DAG, plans, inputs, workers, executors, trainings."""
