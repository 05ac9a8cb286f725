{{/* Names and labels. The label app.kubernetes.io/name is constant: kubectl pgscheduler finds the operator by it. */}}

{{- define "pgscheduler.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pgscheduler.operator.name" -}}
{{- printf "%s-operator" (include "pgscheduler.fullname" .) -}}
{{- end -}}

{{- define "pgscheduler.selectorLabels" -}}
app.kubernetes.io/name: pgscheduler
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pgscheduler.labels" -}}
{{ include "pgscheduler.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pgscheduler.operator.serviceAccount" -}}
{{- default (include "pgscheduler.operator.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "pgscheduler.worker.serviceAccount" -}}
{{- default (printf "%s-worker" (include "pgscheduler.fullname" .)) .Values.worker.serviceAccount.name -}}
{{- end -}}

{{/* An image by its values: repository, tag, digest. */}}
{{- define "pgscheduler.imageName" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end -}}

{{- define "pgscheduler.image" -}}
{{- $image := .Values.image -}}
{{- include "pgscheduler.imageName" (dict "repository" $image.repository "digest" $image.digest "tag" (default .Chart.AppVersion $image.tag)) -}}
{{- end -}}

{{- define "pgscheduler.worker.image" -}}
{{- with .Values.worker.image -}}
{{- if .repository -}}
{{- include "pgscheduler.imageName" (dict "repository" .repository "digest" .digest "tag" (default "latest" .tag)) -}}
{{- else -}}
{{- include "pgscheduler.image" $ -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the database's URL, and its key. */}}
{{- define "pgscheduler.database.secret" -}}
{{- default (printf "%s-database" (include "pgscheduler.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{- define "pgscheduler.database.key" -}}
{{- if .Values.database.existingSecret -}}{{ .Values.database.secretKey }}{{- else -}}dsn{{- end -}}
{{- end -}}

{{/* The URL as a file, so that it may change while the process lives. */}}
{{- define "pgscheduler.database.volume" -}}
{{- $secret := include "pgscheduler.database.secret" . -}}
{{- include "pgscheduler.database.volumeOf" (dict "root" . "secret" $secret "key" (include "pgscheduler.database.key" .)) -}}
{{- end -}}

{{/* That of some login. Arguments: root, secret, key. */}}
{{- define "pgscheduler.database.volumeOf" -}}
- name: database
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: dsn}
{{- with .root.Values.database.caSecret }}
{{- if .name }}
- name: database-ca
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: ca.crt}
{{- end }}
{{- end }}
{{- end -}}

{{- define "pgscheduler.database.mount" -}}
- {name: database, mountPath: /etc/pgscheduler/database, readOnly: true}
{{- if .Values.database.caSecret.name }}
- {name: database-ca, mountPath: /etc/pgscheduler/database-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "pgscheduler.database.env" -}}
- name: PGSCHEDULER_DSN_FILE
  value: /etc/pgscheduler/database/dsn
{{- if .Values.database.caSecret.name }}
- name: PGSSLROOTCERT
  value: /etc/pgscheduler/database-ca/ca.crt
{{- end }}
{{- if or .Values.database.allowInsecure .Values.database.dev.enabled }}
- name: PGSCHEDULER_ALLOW_INSECURE
  value: "true"
{{- end }}
{{- end -}}

{{/* Asked each second, so that a pod is ready as soon as its process is; patient, so that one long breath costs nothing. */}}
{{- define "pgscheduler.probes.start" }}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 1
  failureThreshold: 15
{{- end }}

{{/* Whether those that serve may change the tables. */}}
{{- define "pgscheduler.migrations.env" -}}
- name: PGSCHEDULER_MIGRATE
  value: {{ eq .Values.migrations.run "operator" | quote }}
{{- end -}}
