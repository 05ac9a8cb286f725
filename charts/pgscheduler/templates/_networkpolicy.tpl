{{/* Metrics, for whom the values name. Probes come from the node and pass. */}}
{{- define "pgscheduler.networkPolicy.ingress" -}}
{{- with .Values.networkPolicy.metricsFrom -}}
ingress:
  - from:
      {{- toYaml . | nindent 6 }}
    ports:
      - {protocol: TCP, port: 8080}
{{- else -}}
ingress: []
{{- end -}}
{{- end -}}

{{/* A rule that lets out to some ports, wherever; without a protocol by both. */}}
{{- define "pgscheduler.networkPolicy.ports" -}}
- ports:
    {{- range .ports }}
    {{- if $.protocol }}
    - {protocol: {{ $.protocol }}, port: {{ . }}}
    {{- else }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
    {{- end }}
{{- end -}}
