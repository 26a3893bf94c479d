"""The artifact store: contracts, content keys, parts, snapshots and sources. It knows neither models nor Prefect."""
