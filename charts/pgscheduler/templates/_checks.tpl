{{/* What a schema cannot say, or would say in words that nobody understands. */}}
{{- define "pgscheduler.checks" -}}
{{- $database := .Values.database -}}
{{- $sources := list -}}
{{- if $database.existingSecret }}{{ $sources = append $sources "database.existingSecret" }}{{ end -}}
{{- if $database.url }}{{ $sources = append $sources "database.url" }}{{ end -}}
{{- if $database.dev.enabled }}{{ $sources = append $sources "database.dev.enabled" }}{{ end -}}
{{- if not $sources -}}
{{- fail "\n\nNo database is named. Give exactly one of\n  database.existingSecret  the name of a Secret with the URL of your PostgreSQL under the key dsn\n  database.url             the URL itself, postgresql://user:password@host:5432/database\n  database.dev.enabled     true: a small PostgreSQL of the release's own, to try things out\n" -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "\n\nSeveral databases are named: %s. Give one of them only." (join ", " $sources)) -}}
{{- end -}}
{{- /* Here and not in the schema, whose messages repeat the value: it may hold a password. */}}
{{- if and $database.url (not (regexMatch "^postgres(ql)?://." $database.url)) -}}
{{- fail "\n\ndatabase.url is no URL of a PostgreSQL. Give postgresql://user:password@host:5432/database." -}}
{{- end -}}
{{- $migrations := .Values.migrations -}}
{{- if and (eq $migrations.run "job") $database.dev.enabled -}}
{{- fail "\n\nmigrations.run is job and database.dev.enabled is true: the hook runs before that database is made. Set migrations.run=operator, or name a database that is there." -}}
{{- end -}}
{{- if and (eq $migrations.run "job") (not $migrations.existingSecret) -}}
{{- fail "\n\nmigrations.run is job and migrations.existingSecret is empty: name the Secret with the URL of the login that owns the tables." -}}
{{- end -}}
{{- range $value := list "existingSecret" "roles" -}}
{{- if and (ne $migrations.run "job") (get $migrations $value) -}}
{{- fail (printf "\n\nmigrations.%s is set and migrations.run is %s: only the job uses it. Set migrations.run=job, or leave it out." $value $migrations.run) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.operator.enabled .Values.worker.enabled) -}}
{{- fail "\n\noperator.enabled and worker.enabled are both false: there is nothing to install." -}}
{{- end -}}
{{- if and .Values.worker.enabled (not .Values.worker.pools) -}}
{{- fail "\n\nworker.pools is empty: name a pool, or set worker.enabled=false." -}}
{{- end -}}
{{- range $name, $pool := .Values.worker.pools -}}
{{- if hasKey (default dict $pool.spec) "targetRef" -}}
{{- fail (printf "\n\nworker.pools.%s.spec.targetRef is the Deployment that the chart makes for the pool. Leave it out." $name) -}}
{{- end -}}
{{- $autoscaling := default dict (default dict $pool.spec).autoscaling -}}
{{- $least := int (default 0 $autoscaling.minReplicas) -}}
{{- if and (hasKey $autoscaling "maxReplicas") (gt $least (int $autoscaling.maxReplicas)) -}}
{{- fail (printf "\n\nworker.pools.%s.spec.autoscaling: minReplicas is %d and maxReplicas is %d. Give a maxReplicas of %d or more." $name $least (int $autoscaling.maxReplicas) $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}
