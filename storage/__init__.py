"""The artifact store: contracts, content keys, parts and snapshots. It knows neither models nor Prefect."""
