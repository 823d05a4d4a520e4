# Read by the MariaDB image's entry point when its volume is new (compose.yaml): the
# accounts of scripts/services, reachable from outside the container.
# shellcheck shell=bash
sed -e "s|@HOST@|%|g" -e "s|@PASSWORD@|$ENGINE_PASSWORD|g" -e "s|@ADMIN_PASSWORD@|$ADMIN_PASSWORD|g" \
	/templates/accounts.sql | docker_process_sql
