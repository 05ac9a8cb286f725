{{/* A Job of a hook: one pod of the image with a ServiceAccount of its own. Arguments: root, name, component, args, hook.
One with a login (secret, key) speaks to the database alone, and has no token of its account. */}}
{{- define "pgscheduler.hookMetadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
{{ include "pgscheduler.hookMarks" . }}
{{- end -}}

{{- define "pgscheduler.hookMarks" -}}
labels:
  {{- include "pgscheduler.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
annotations:
  helm.sh/hook: {{ .hook }}
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
{{- end -}}

{{- define "pgscheduler.hookServiceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "pgscheduler.hookMetadata" (merge (dict "weight" "-2") .) | nindent 2 }}
{{- end -}}

{{- define "pgscheduler.hookSubjects" -}}
subjects:
  - {kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}
{{- end -}}

{{- define "pgscheduler.hookPod" -}}
serviceAccountName: {{ .name }}
{{- if .login }}
automountServiceAccountToken: false
{{- end }}
restartPolicy: Never
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .component }}
    image: {{ include "pgscheduler.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: {{ toJson .args }}
    {{- if .login }}
    env:
      {{- include "pgscheduler.database.env" .root | nindent 6 }}
    {{- end }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 256Mi}
    securityContext:
      {{- toYaml .root.Values.securityContext | nindent 6 }}
    volumeMounts:
      {{- if .login }}
      {{- include "pgscheduler.database.mount" .root | nindent 6 }}
      {{- end }}
      - {name: tmp, mountPath: /tmp}
volumes:
  {{- with .login }}
  {{- include "pgscheduler.database.volumeOf" (merge (dict "root" $.root) .) | nindent 2 }}
  {{- end }}
  - {name: tmp, emptyDir: {}}
{{- end -}}

{{- define "pgscheduler.hookJob" -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "pgscheduler.hookMetadata" (merge (dict "weight" "0") .) | nindent 2 }}
spec:
  backoffLimit: 2
  activeDeadlineSeconds: {{ default 240 .deadline }}
  template:
    metadata:
      labels:
        {{- include "pgscheduler.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
    spec:
      {{- include "pgscheduler.hookPod" . | nindent 6 }}
{{- end -}}
