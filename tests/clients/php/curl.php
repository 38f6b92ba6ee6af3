<?php
// PHP's curl extension, one handle.

require __DIR__ . '/steps.php';

$handle = curl_init();

serve(function (string $method, string $url) use ($handle): array {
    curl_reset($handle);
    curl_setopt_array($handle, [CURLOPT_URL => $url, CURLOPT_RETURNTRANSFER => true, CURLOPT_FOLLOWLOCATION => true]);
    if ($method === 'POST') {
        curl_setopt($handle, CURLOPT_POSTFIELDS, file_get_contents(getenv('BODY')));
    }
    $text = curl_exec($handle);
    return $text === false ? [null, curl_error($handle)] : [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $text];
});
